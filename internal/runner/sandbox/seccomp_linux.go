package sandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/net/bpf"
)

// The offsets in struct seccomp_data. Arguments have 64 bits; both architectures are
// little-endian, so the lower half comes first.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// What a filter answers.
const (
	allow       = 0x7fff0000
	refuse      = 0x00050000 // with an errno
	killProcess = 0x80000000
)

// x32 marks a system call of amd64's third ABI, which has numbers of its own.
const x32 = 0x40000000

// clone's flags that make namespaces.
const newNamespaces = syscall.CLONE_NEWNS | 0x02000000 /* cgroup */ | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC |
	syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET

// setID are the bits of a mode that make a program run as its owner or group.
const setID = syscall.S_ISUID | syscall.S_ISGID

// Filter returns the seccomp program for the architecture (amd64 or arm64), as the
// kernel reads it.
func Filter(arch string) ([]byte, error) {
	program, err := filter(arch)
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, in := range raw { // struct sock_filter
		if err := binary.Write(&b, binary.LittleEndian, in); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

func filter(arch string) ([]bpf.Instruction, error) {
	var column int
	var audit uint32
	switch arch {
	case "amd64":
		column, audit = amd64, 0xc000003e
	case "arm64":
		column, audit = arm64, 0xc00000b7
	default:
		return nil, fmt.Errorf("there is no list of system calls for %s: only for amd64 and arm64", arch)
	}
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offsetArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: audit, SkipTrue: 1},
		bpf.RetConstant{Val: killProcess},
		bpf.LoadAbsolute{Off: offsetNumber, Size: 4},
	}
	if column == amd64 {
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpLessThan, Val: x32, SkipTrue: 1},
			bpf.RetConstant{Val: refuse | uint32(syscall.ENOSYS)})
	}
	for _, c := range refused {
		if n := c.number[column]; n != none {
			program = append(program,
				bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(n), SkipTrue: 1},
				bpf.RetConstant{Val: refuse | uint32(c.errno)})
		}
	}
	for _, c := range inspected {
		if n := c.number[column]; n != none {
			body := append(slices.Clone(c.body), bpf.RetConstant{Val: allow})
			program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(n), SkipTrue: uint8(len(body))})
			program = append(program, body...)
		}
	}
	return append(program, bpf.RetConstant{Val: allow}), nil
}

// argument loads the lower half of the n-th argument, from 0.
func argument(n uint32) bpf.Instruction {
	return bpf.LoadAbsolute{Off: offsetArgs + 8*n, Size: 4}
}

// ifAny refuses with EPERM if the argument has one of the bits.
func ifAny(arg, bits uint32) []bpf.Instruction {
	return []bpf.Instruction{
		argument(arg),
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: bits, SkipTrue: 1},
		bpf.RetConstant{Val: refuse | uint32(syscall.EPERM)},
	}
}

// ifEqual refuses with EPERM if the argument is one of the values.
func ifEqual(arg uint32, values ...uint32) []bpf.Instruction {
	body := []bpf.Instruction{argument(arg)}
	for _, v := range values {
		body = append(body,
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: v, SkipTrue: 1},
			bpf.RetConstant{Val: refuse | uint32(syscall.EPERM)})
	}
	return body
}

// unlessEqual refuses with EAFNOSUPPORT unless the argument is one of the values.
func unlessEqual(arg uint32, values ...uint32) []bpf.Instruction {
	body := []bpf.Instruction{argument(arg)}
	for i, v := range values {
		body = append(body, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(len(values) - i)})
	}
	return append(body, bpf.RetConstant{Val: refuse | uint32(syscall.EAFNOSUPPORT)})
}

// ifCreates refuses with EPERM if the call makes a file (flags) whose mode has setID.
// Without O_CREAT and O_TMPFILE the mode may be anything.
func ifCreates(flags, mode uint32) []bpf.Instruction {
	const tmpfile = 0x400000 // without O_DIRECTORY, whose number differs
	body := []bpf.Instruction{argument(flags), bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: syscall.O_CREAT | tmpfile, SkipTrue: 3}}
	return append(body, ifAny(mode, setID)...)
}
