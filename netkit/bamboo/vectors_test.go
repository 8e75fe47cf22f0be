package bamboo

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What p2panda-rs 0.8.1 has in src/test_utils/fixtures/version_fixtures.rs, src/test_utils/constants.rs and the tests of
// src/entry/encode.rs; the ids and the chain are computed from it.
const (
	seedA      = "4c21b14046f284f87f1ea4be4b973664221ad483079a68ed35a6812553b41176"
	operationA = "840100784a76656e75655f3030323063363535363761653337656665613239336533346139633764313366386632626632336462646333623563376239616234363239333131316334386663373862a26b6465736372697074696f6e71666f7220706c6179696e67206368657373646e616d65656368657373"
	entryA     = "009cdb3a8c0c4b308173d4c3c43a67a6d013444af99acb8be6c52423746d9aa2c10001790020d00b4a66f86b0868b948204bff9e17e1688040e895c2c1f0b3114f45d412978d44804f48e535f87936bf8574c287e470ee1bf453920cddabc244a1168ade39ad14c430d377977695839cbb31d30d8b6577caaf9ad759c3060bfbac0593b50502"
	idA        = "002025bb7734f4445bec664e166f4ac05436f7606ba43799ed7a10bcc8db51974ca4"

	seedB      = "eb852fefa703901e42f17cdc2aa507947f392a72101b2c1a6d30023af14f75e2"
	operationB = "840100784a76656e75655f3030323063363535363761653337656665613239336533346139633764313366386632626632336462646333623563376239616234363239333131316334386663373862a963616765181c68636f6d6d656e74738281582200204f0dd3a1b8205b6d4ce3fd4c158bb91c9e131bd842e727164ea220b5b6d09346825822002019ed3e9b39cd17f1dbc0f6e31a6e7b9c9ab7e349332e710c946a441b7d308eb558220020995d53f460293c5686c42037b72787ed28668ad8b6d18e9d5f02c5d3301161f06464617461440001020366686569676874f943006869735f61646d696ef46a6d795f667269656e647381582200209a2149589672fa1ac2348e48b4c56fc208a0eff44938464dd2091850f444a3236a706173745f6576656e748258220020475488c0e2bbb9f5a81929e2fe11de81c1f83c8045de41da43899d25ad0d4afa58220020f7a17e14b9a5e87435decdbc28d562662fbf37da39b94e8469d8e1873336e80e6f70726f66696c655f7069637475726558220020b177ec1bf26dfb3b7010d473e6d44713b29b765b99c6e60ecbfae742de49654368757365726e616d656462756275"
	entryB     = "002f8e50c2ede6d936ecc3144187ff1c273808185cfbc5ff3d3748d1ff7353fc960001f901b200205610cb28a37deed208bd52980f54132a062a5f8e3eac7fb9e6d404f3b1b76b32e6897d47a56691d0d2ea2ba14c676a4154d7226d678c6fbeb0a2ffb70ad245c942b0194e7ac73f38902c08d19a4a44cfa73083e296c256f3c7be49843e52a402"
	idB        = "00207f8ffabff270f21098a457b900b4989b7272a6cb637f3c938b06be0a77b708ed"

	venue = "venue_0020c65567ae37efea293e34a9c7d13f8f2bf23dbdc3b5c7b9ab46293111c48fc78b"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func key(t testing.TB, seed string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(unhex(t, seed))
}

func id(t testing.TB, text string) Hash {
	t.Helper()
	h, err := ParseHash(text)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestVectors makes upstream's entries and operations from their parts, and reads them back.
func TestVectors(t *testing.T) {
	for _, v := range []struct {
		name, seed, operation, entry, id string
		fields                           map[string]any
	}{
		{"A", seedA, operationA, entryA, idA, map[string]any{"description": "for playing chess", "name": "chess"}},
		{"B", seedB, operationB, entryB, idB, map[string]any{
			"age": int64(28),
			"comments": [][]Hash{{
				id(t, "00204f0dd3a1b8205b6d4ce3fd4c158bb91c9e131bd842e727164ea220b5b6d09346"),
			}, {
				id(t, "002019ed3e9b39cd17f1dbc0f6e31a6e7b9c9ab7e349332e710c946a441b7d308eb5"),
				id(t, "0020995d53f460293c5686c42037b72787ed28668ad8b6d18e9d5f02c5d3301161f0"),
			}},
			"data": []byte{0, 1, 2, 3}, "height": 3.5, "is_admin": false,
			"my_friends": []Hash{id(t, "00209a2149589672fa1ac2348e48b4c56fc208a0eff44938464dd2091850f444a323")},
			"past_event": []Hash{
				id(t, "0020475488c0e2bbb9f5a81929e2fe11de81c1f83c8045de41da43899d25ad0d4afa"),
				id(t, "0020f7a17e14b9a5e87435decdbc28d562662fbf37da39b94e8469d8e1873336e80e"),
			},
			"profile_picture": unhex(t, "0020b177ec1bf26dfb3b7010d473e6d44713b29b765b99c6e60ecbfae742de496543"),
			"username":        "bubu",
		}},
	} {
		t.Run(v.name, func(t *testing.T) {
			raw := unhex(t, v.operation)
			operation, err := DecodeOperation(raw)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Operation{Action: Create, Schema: venue, Fields: v.fields}, operation); diff != "" {
				t.Error(diff)
			}
			again, err := operation.Encode()
			if err != nil || !bytes.Equal(again, raw) {
				t.Errorf("encoded again: %x, %v", again, err)
			}
			made, err := Sign(key(t, v.seed), 0, nil, Hash{}, raw)
			if err != nil || hex.EncodeToString(made.Raw) != v.entry || made.ID.String() != v.id {
				t.Errorf("signed: %x with id %s, %v", made.Raw, made.ID, err)
			}
			read, err := Parse(unhex(t, v.entry))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(made, read); diff != "" {
				t.Error(diff)
			}
			if err := read.Verify(); err != nil {
				t.Error(err)
			}
			if err := read.CheckPayload(raw); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestVectorChain signs the operation of A five times in log 7.
func TestVectorChain(t *testing.T) {
	want := []string{
		"0020a20e601d772f9384863d57dcafbd7116b7bf2347776025eee38d6e7c72b0f14b",
		"0020e383a149b3b356878b3045294dba0dc4fcc808b6e1865395a7368bd0125ab040",
		"00207608b970a69db873c35df3bf0792de362835cd5065a4e3c5ebe9e46b39e92206",
		"00206affb13cb94e64101aa2705a4f680b914d85131a2937b1109ad40ac087ecdbfc",
		"002096244f91b6eee47d103fdf2fd91ba9b11b6c980700ed1ec15a17d735f7472558",
	}
	run := chain(t, key(t, seedA), 7, len(want), func(int) []byte { return unhex(t, operationA) })
	for i, e := range run {
		if e.ID.String() != want[i] {
			t.Errorf("entry %d has id %s, want %s", i+1, e.ID, want[i])
		}
	}
	if run[3].Skiplink != run[0].ID {
		t.Error("entry 4 does not lead to entry 1")
	}
	if sizes := []int{len(run[0].Raw), len(run[1].Raw), len(run[3].Raw)}; !cmp.Equal(sizes, []int{134, 168, 202}) {
		t.Errorf("entries of %d bytes", sizes)
	}
}

func TestVectorNumbers(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "00", 247: "f7", 248: "f8f8", 255: "f8ff", 256: "f90100", 434: "f901b2", 65535: "f9ffff", 65536: "fa010000",
		72057594037927935: "feffffffffffffff", 72057594037927936: "ff0100000000000000",
	} {
		if got := hex.EncodeToString(AppendVaru64(nil, n)); got != want {
			t.Errorf("%d is written %s, want %s", n, got, want)
		}
	}
}

func TestVectorHashes(t *testing.T) {
	for data, want := range map[string]string{
		"\x01\x02\x03": "0020b177ec1bf26dfb3b7010d473e6d44713b29b765b99c6e60ecbfae742de496543",
		"\x03\x02\x01": "0020c65567ae37efea293e34a9c7d13f8f2bf23dbdc3b5c7b9ab46293111c48fc78b",
	} {
		if got := HashOf([]byte(data)).String(); got != want {
			t.Errorf("hash of %x is %s, want %s", data, got, want)
		}
	}
	list, err := (&Operation{Action: Delete, Schema: venue, Previous: []Hash{id(t, idA)}}).Encode()
	if err != nil || !bytes.HasSuffix(list, append([]byte{0x81, 0x58, 0x22}, unhex(t, idA)...)) {
		t.Errorf("a list of ids is written %x, %v", list, err)
	}
}

// TestVectorLipmaa holds all skiplinks up to 80, in their order.
func TestVectorLipmaa(t *testing.T) {
	want := map[uint64]uint64{
		4: 1, 8: 4, 12: 8, 13: 4, 17: 13, 21: 17, 25: 21, 26: 13, 30: 26, 34: 30, 38: 34, 39: 26, 40: 13, 44: 40, 48: 44, 52: 48,
		53: 40, 57: 53, 61: 57, 65: 61, 66: 53, 70: 66, 74: 70, 78: 74, 79: 66, 80: 40,
	}
	got := make(map[uint64]uint64)
	for seq := uint64(1); seq <= 80; seq++ {
		if HasSkiplink(seq) {
			got[seq] = Lipmaa(seq)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := Lipmaa(121); got != 40 {
		t.Errorf("entry 121 leads to %d, want 40", got)
	}
}
