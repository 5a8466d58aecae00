// A parent of multi-fetch, written from protocol.md: it verifies what comes, and keeps nothing.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// The states of section 4.
var states = map[string]string{"asked begin": "begun", "asked error": "failed", "begun data": "begun",
	"begun end": "ended", "begun error": "failed", "worker error": "failed"}

var usage = regexp.MustCompile(`^\["[^"\\]+"( " *[^#!"\\ ][^"\\]*")+]$`) // %q writes what is special with a \
var worker = exec.Command("multi-fetch", "--protocol-version", "1")

// check ends the worker, and then itself with a status, unless all is right.
func check(isRight bool, status int, why string, values ...any) {
	if !isRight {
		fmt.Fprintf(os.Stderr, why+"\n", values...)
		if worker.Process != nil {
			worker.Process.Kill()
		}
		os.Exit(status)
	}
}

func number(integer any) (value int64) { fmt.Sscan(fmt.Sprint(integer), &value); return value }

func show(_ string, frame []any) {
	check(json.NewEncoder(os.Stdout).Encode(frame) == nil, 1, "nobody reads stdout")
}

// object is what has come of one id.
type object struct {
	state     string
	size      int64
	sum       hash.Hash
	announced int64 // of its children, those that have not come yet
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--decode" {
		read(os.Stdin, show)
		return
	}
	check(usage.MatchString(fmt.Sprintf("%q", os.Args[1:])), 2, "usage: parent <remote> <request line>...")
	remote, lines := os.Args[1], os.Args[2:]
	objects := map[int64]*object{0: {state: "worker"}}
	for index := range lines {
		objects[int64(index+1)] = &object{state: "asked", sum: sha256.New()}
	}
	worker.Args = append(worker.Args, remote)
	worker.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n") // written while we read
	worker.Stderr = os.Stderr
	stdout, _ := worker.StdoutPipe()
	check(worker.Start() == nil, 1, "multi-fetch cannot be started")
	last := ""
	read(stdout, func(kind string, frame []any) {
		id := number(frame[1])
		isNext := last != "" && last != "bye"
		if kind == "hello" {
			isNext = last == "" && id == 1
		}
		check(isNext, 1, "%s %d after %q", kind, id, last)
		if last = kind; kind != "hello" && kind != "bye" {
			follow(objects, id, kind, frame)
		}
	})
	worker.Wait()
	isGood := last == "bye"
	for _, each := range objects {
		isGood = isGood && (each.state == "worker" || each.state == "ended" && each.announced == 0)
	}
	status := worker.ProcessState.ExitCode()
	check(isGood || status != 0, 1, "not all succeeded")
	os.Exit(status)
}

// follow takes one frame of one id.
func follow(objects map[int64]*object, id int64, kind string, frame []any) {
	if id < 0 && objects[id] == nil { // found below an object, which its first frame names
		above := frame[len(frame)-1]
		if detail, isMap := above.(map[string]any); isMap {
			above = detail["parent"]
		}
		parent := objects[number(above)]
		check(parent != nil && parent.announced > 0, 1, "nothing has announced %d", id)
		parent.announced--
		objects[id] = &object{state: "asked", sum: sha256.New()}
	}
	of := objects[id]
	check(of != nil && states[of.state+" "+kind] != "", 1, "%s of %d, which is not open", kind, id)
	of.state = states[of.state+" "+kind]
	switch kind {
	case "data":
		check(number(frame[2]) == of.size, 1, "a gap before %d in %d", frame[2], id)
		size, _ := of.sum.Write(frame[3].([]byte))
		of.size += int64(size)
	case "end":
		digest := strings.Replace(fmt.Sprint(frame[3]), "<nil>", "-", 1)
		sum := fmt.Sprintf("sha256:%x", of.sum.Sum(nil))
		isSame := digest == sum || !strings.HasPrefix(digest, "sha256:")
		check(number(frame[2]) == of.size && isSame, 1, "%d is %s, not %s", id, sum, digest)
		fmt.Println(id, digest, of.size)
		of.announced = number(frame[4])
	case "error":
		fmt.Println(id, frame[2], of.size)
		fmt.Fprintf(os.Stderr, "%d: %q\n", id, frame[3])
	}
}
