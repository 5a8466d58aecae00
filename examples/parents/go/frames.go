// Section 3 of protocol.md: the bytes of a stream to frames, as far as they are known, or to a refusal.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

const (
	strs, texts = `list:map\[(str:true)?]`, `map\[(str:true)?]`
	fact        = `int|float|str|map\[((int|float|str):true ?)*]`
)

// Of which kind the elements of a frame are, and the fields of a descriptor; see fits.
var elements = map[string]string{
	"hello": "int str int int " + strs + " str",
	"begin": "int str map.* str int|<nil>",
	"data":  `int int \[]uint8`,
	"end":   "int int str|<nil> int", "file": "int str int",
	"error": "int str str bool map.*",
	"bye":   "int int int int map.*",
}
var fields = map[string]string{"mediaType": "str", "digest": "str", "size": "int|<nil>", "urls": strs,
	"data": "str", "annotations": texts, "artifactType": "str", "platform": "map.*"}

// scalar is what a value is called: an int has to fit 64 bits with a sign, and a str to be UTF-8.
func scalar(value any) string {
	of := reflect.ValueOf(value)
	if of.CanInt() || of.CanUint() && of.Uint()>>63 == 0 {
		return "int"
	} else if of.CanFloat() {
		return "float"
	} else if text, isText := value.(string); isText && utf8.ValidString(text) {
		return "str"
	}
	return fmt.Sprintf("%T", value)
}

// fits tells whether a value is of a kind; that of an array or map has the kinds of what is within.
func fits(value any, kind string) bool {
	within, told := map[string]bool{}, scalar(value)
	if list, isList := value.([]any); isList {
		for _, each := range list {
			within[scalar(each)] = true
		}
		told = "list:" + fmt.Sprint(within)
	} else if held, isMap := value.(map[string]any); isMap {
		for _, each := range held {
			within[scalar(each)] = true
		}
		told = fmt.Sprint(within)
	}
	return regexp.MustCompile("^(" + kind + ")$").MatchString(told)
}

func decodeMap(decoder *msgpack.Decoder) (any, error) {
	held := map[string]any{}
	count, err := decoder.DecodeMapLen()
	for key := any(nil); count > 0 && err == nil; count-- {
		if key, err = decoder.DecodeInterface(); err == nil {
			held[fmt.Sprint(key)], err = decoder.DecodeInterface()
		}
	}
	return held, err
}

func init() { // a value of an extension's type is of no type that is known here
	skip := func(decoder *msgpack.Decoder, _ reflect.Value, size int) error {
		return decoder.ReadFull(make([]byte, size))
	}
	for id := -128; id < 128; id++ {
		msgpack.RegisterExtDecoder(int8(id), struct{}{}, skip)
	}
}

// read gives the frames of known kinds to take.
func read(stream io.Reader, take func(kind string, frame []any)) {
	length, limit := uint32(0), int64(589_824)
	for binary.Read(stream, binary.BigEndian, &length) != io.EOF {
		check(int64(length) <= limit, 1, "a frame of %d bytes", length)
		payload, _ := io.ReadAll(io.LimitReader(stream, int64(length)))
		body := bytes.NewReader(payload)
		decoder := msgpack.NewDecoder(body)
		decoder.SetMapDecoder(decodeMap)
		value, err := decoder.DecodeInterface()
		frame, _ := value.([]any)
		isWhole := err == nil && len(payload) == int(length) && body.Len() == 0
		check(isWhole && len(frame) > 0 && fits(frame[0], "str"), 1, "no frame: %v", err)
		kind := frame[0].(string)
		known := strings.Fields(elements[kind])
		for at, wanted := range known {
			check(at+1 < len(frame) && fits(frame[at+1], wanted), 1, "element %d of %s", at+1, kind)
			held, _ := frame[at+1].(map[string]any)
			for name, value := range held {
				if kind == "begin" && !fits(value, fields[name]) || kind != "begin" && !fits(value, fact) {
					delete(held, name)
				}
			}
			_, hasSize := held["size"]
			isDescriptor := hasSize && held["mediaType"] != nil && held["digest"] != nil
			check(held == nil || kind != "begin" || isDescriptor, 1, "no descriptor in begin")
		}
		if kind == "hello" {
			limit = number(frame[4])
		}
		if len(known) > 0 {
			take(kind, frame[:len(known)+1])
		}
	}
}
