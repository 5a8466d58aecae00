// A parent of multi-fetch, written from protocol.md: it verifies what comes, and keeps nothing.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

// The states of section 4; how many elements of a kind are known, and as what the library decodes them.
var states = map[string]string{" begin": "begun", "begun data": "begun", "begun end": "closed",
	" error": "closed", "begun error": "closed", "worker error": "worker"}
var known = map[string]int{"hello": 7, "begin": 6, "data": 4, "end": 5, "error": 6, "bye": 6}
var shape = regexp.MustCompile(strings.NewReplacer(":", " string", "INT", `u?int\d+`, "MAP", `map\S+ {}`).Replace(
	`^(hello: INT string INT INT \[]interface {} string|begin: INT string MAP string (INT|<nil>) string string (INT|<nil>)|` +
											`data: INT INT \[]uint8|end: INT INT (string|<nil>) INT|error: INT string string bool MAP|bye: INT INT INT INT MAP)$`))
var usage = regexp.MustCompile(`^\["[^"\\]+"( " *[^#!"\\ ][^"\\]*")+]$`) // %q writes what is special with a \
func check(isRight bool, status int, why string, values ...any) { // closing our pipes ends the worker, too
	if !isRight {
		fmt.Fprintf(os.Stderr, why+"\n", values...)
		os.Exit(status)
	}
}

func number(integer any) (value int64) { fmt.Sscan(fmt.Sprint(integer), &value); return value }

// read takes the frames of known kinds, without details, and with those fields of descriptors that are always there.
func read(stream io.Reader, take func(kind string, frame []any)) {
	length, limit := uint32(0), int64(589_824)
	for binary.Read(stream, binary.BigEndian, &length) != io.EOF {
		check(int64(length) <= limit, 1, "a frame of %d bytes", length)
		payload, _ := io.ReadAll(io.LimitReader(stream, int64(length)))
		body, in, frame, of, types := bytes.NewReader(payload), map[string]msgpack.RawMessage{}, []any{}, []any{}, ""
		decoder := msgpack.NewDecoder(body)
		decoder.SetMapDecoder(func(*msgpack.Decoder) (any, error) { return map[string]any{}, decoder.Decode(&in) })
		count, err := decoder.DecodeArrayLen()
		for ; count > 0 && err == nil; count-- {
			if len(frame) > 0 && len(frame) >= known[fmt.Sprint(frame[0])] {
				err = decoder.Skip()
			} else {
				frame = append(frame, nil)
				frame[len(frame)-1], err = decoder.DecodeInterface()
			}
		}
		kind, isGood := append(frame, nil)[0].(string)
		if size, hasSize := in["size"]; kind == "begin" && hasSize && err == nil {
			err = msgpack.Unmarshal(bytes.Join([][]byte{{0x93}, in["mediaType"], in["digest"], size, {0xc0}}, nil), &of)
		}
		for _, value := range append(frame, of...) {
			number, _ := value.(uint64)
			types += fmt.Sprintf(" %T", value)
			isGood = isGood && number>>63 == 0 && (kind == "data" || utf8.ValidString(fmt.Sprint(value)))
		}
		isGood = isGood && len(payload) == int(length) && body.Len() == 0 && (payload[0]>>4 == 0x9 || payload[0]>>1 == 0x6e)
		isGood = isGood && (known[kind] == 0 || shape.MatchString(kind+types)) // 0x6e: array 16 and 32; an ext may look like one
		check(isGood && err == nil, 1, "%q with%s is no frame: %v", kind, types, err)
		if kind == "begin" {
			frame[3] = map[string]any{"mediaType": of[0], "digest": of[1], "size": of[2]}
		}
		if kind == "hello" {
			limit = number(frame[4])
		}
		if known[kind] > 0 {
			take(kind, frame)
		}
	}
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--decode" {
		read(os.Stdin, func(_ string, frame []any) { check(json.NewEncoder(os.Stdout).Encode(frame) == nil, 1, "no stdout") })
		os.Exit(0)
	}
	check(usage.MatchString(fmt.Sprintf("%q", os.Args[1:])), 2, "usage: parent <remote> <request line>...")
	lines, last, succeeded, worker := os.Args[2:], "", int64(0), exec.Command("multi-fetch", "--protocol-version", "1", os.Args[1])
	worker.Stdin, worker.Stderr = strings.NewReader(strings.Join(lines, "\n")+"\n"), os.Stderr // written as we read
	stdout, _ := worker.StdoutPipe()
	check(worker.Start() == nil, 1, "multi-fetch cannot be started")
	state, sizes, sums := map[int64]string{0: "worker"}, map[int64]int64{}, map[int64]hash.Hash{}
	read(stdout, func(kind string, frame []any) {
		id := number(frame[1])
		check((kind == "hello") == (last == "") && last != "bye" && (kind != "hello" || id == 1), 1, "%s %d after %q", kind, id, last)
		if last = kind; kind != "hello" && kind != "bye" {
			state[id] = states[state[id]+" "+kind]
			check(state[id] != "" && id <= int64(len(lines)), 1, "%s of %d", kind, id)
		}
		switch kind {
		case "begin":
			sums[id] = sha256.New()
		case "data":
			check(number(frame[2]) == sizes[id], 1, "a gap before %d in %d", frame[2], id)
			size, _ := sums[id].Write(frame[3].([]byte))
			sizes[id] += int64(size)
		case "end":
			digest, sum := strings.Replace(fmt.Sprint(frame[3]), "<nil>", "-", 1), fmt.Sprintf("sha256:%x", sums[id].Sum(nil))
			check(number(frame[2]) == sizes[id] && (digest == sum || !strings.HasPrefix(digest, "sha256:")), 1, "%d is %s", id, sum)
			fmt.Println(id, digest, sizes[id])
			succeeded += 1 - number(frame[4]) // what was found below is to succeed, too
		case "error":
			fmt.Println(id, frame[2], sizes[id])
			fmt.Fprintf(os.Stderr, "%d: %q\n", id, frame[3])
			succeeded-- // so that they never add up
		}
	})
	worker.Wait()
	check(last == "bye" && succeeded == int64(len(lines)) || worker.ProcessState.ExitCode() != 0, 1, "not all succeeded")
	os.Exit(worker.ProcessState.ExitCode())
}
