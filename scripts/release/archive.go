package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"path"
	"time"
)

// file is one that is packed.
type file struct {
	from, name string
	mode       fs.FileMode
}

// archive is what is packed, below one folder.
type archive struct {
	root  string
	made  time.Time // which all files get
	files []file
}

// packing is how archives end that the target can open without another program.
func (t target) packing() string {
	if t.os == "windows" {
		return ".zip"
	}
	return ".tar.gz"
}

// pack makes the archive. Nothing in it tells when, where or by whom it was made.
func (a archive) pack(t target) ([]byte, error) {
	var out bytes.Buffer
	var err error
	if t.os == "windows" {
		err = a.zip(&out)
	} else {
		err = a.tar(&out)
	}
	return out.Bytes(), err
}

func (a archive) zip(out *bytes.Buffer) error {
	w := zip.NewWriter(out)
	for _, f := range a.files {
		data, err := os.ReadFile(f.from)
		if err != nil {
			return err
		}
		h := &zip.FileHeader{Name: path.Join(a.root, f.name), Method: zip.Deflate, Modified: a.made}
		h.SetMode(f.mode)
		to, err := w.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := to.Write(data); err != nil {
			return err
		}
	}
	return w.Close()
}

func (a archive) tar(out *bytes.Buffer) error {
	packed, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := tar.NewWriter(packed)
	for _, f := range a.files {
		data, err := os.ReadFile(f.from)
		if err != nil {
			return err
		}
		h := tar.Header{Typeflag: tar.TypeReg, Name: path.Join(a.root, f.name), Size: int64(len(data)), Mode: int64(f.mode), ModTime: a.made, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), packed.Close())
}
