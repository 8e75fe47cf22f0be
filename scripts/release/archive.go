package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"time"
)

// part is a file of a package.
type part struct {
	name, from string
	mode       fs.FileMode
}

// ending is that of the name of a package.
func (t target) ending() string {
	if t.os == "windows" {
		return ".zip"
	}
	return ".tar.gz"
}

// tarred packs files into a folder, as nobody's and of one time.
func tarred(folder string, made time.Time, parts []part) ([]byte, error) {
	var out bytes.Buffer
	packed, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(packed)
	for _, p := range parts {
		data, err := os.ReadFile(p.from)
		if err != nil {
			return nil, err
		}
		h := tar.Header{Typeflag: tar.TypeReg, Name: folder + "/" + p.name, Size: int64(len(data)), Mode: int64(p.mode), ModTime: made, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(w.Close(), packed.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// zipped is tarred for systems that have no tar.
func zipped(folder string, made time.Time, parts []part) ([]byte, error) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, p := range parts {
		data, err := os.ReadFile(p.from)
		if err != nil {
			return nil, err
		}
		h := zip.FileHeader{Name: folder + "/" + p.name, Method: zip.Deflate, Modified: made}
		h.SetMode(p.mode)
		f, err := w.CreateHeader(&h)
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
