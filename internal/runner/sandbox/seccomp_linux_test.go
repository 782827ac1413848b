package sandbox

import (
	"encoding/binary"
	"syscall"
	"testing"

	"golang.org/x/net/bpf"
)

// answerOf runs the filter for one call.
func answerOf(t *testing.T, arch string, audit, number uint32, args ...uint64) uint32 {
	t.Helper()
	program, err := filter(arch)
	if err != nil {
		t.Fatal(err)
	}
	// The virtual machine reads big-endian packets, and the kernel words as they are.
	packet := make([]byte, 16, 64)
	binary.BigEndian.PutUint32(packet, number)
	binary.BigEndian.PutUint32(packet[4:], audit)
	for i := range 6 {
		var a uint64
		if i < len(args) {
			a = args[i]
		}
		packet = binary.BigEndian.AppendUint32(packet, uint32(a))
		packet = binary.BigEndian.AppendUint32(packet, uint32(a>>32))
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	n, err := vm.Run(packet)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// The filters of both architectures, instruction by instruction: this machine is only
// one of them.
func TestFilters(t *testing.T) {
	eperm, enosys, family := refuse|uint32(syscall.EPERM), refuse|uint32(syscall.ENOSYS), refuse|uint32(syscall.EAFNOSUPPORT)
	for arch, audit := range map[string]uint32{"amd64": 0xc000003e, "arm64": 0xc00000b7} {
		column := amd64
		if arch == "arm64" {
			column = arm64
		}
		for _, c := range refused {
			if n := c.number[column]; n != none {
				if got := answerOf(t, arch, audit, uint32(n)); got != refuse|uint32(c.errno) {
					t.Errorf("%s: %s is answered with %#x", arch, c.name, got)
				}
			}
		}
		at := func(name string) uint32 {
			for _, c := range inspected {
				if c.name == name {
					return uint32(c.number[column])
				}
			}
			t.Fatal(name)
			return 0
		}
		for _, c := range []struct {
			what   string
			number uint32
			args   []uint64
			want   uint32
		}{
			{"a thread", at("clone"), []uint64{0x3d0f00}, allow},
			{"a process", at("clone"), []uint64{17}, allow},
			{"a user namespace", at("clone"), []uint64{0x10000000 | 17}, eperm},
			{"a mount namespace", at("clone"), []uint64{0x20000 | 17}, eperm},
			{"TCGETS", at("ioctl"), []uint64{0, 0x5401}, allow},
			{"TIOCSTI", at("ioctl"), []uint64{0, 0x5412}, eperm},
			{"TIOCSTI with a high half, which the kernel ignores", at("ioctl"), []uint64{0, 1<<32 | 0x5412}, eperm},
			{"TIOCLINUX", at("ioctl"), []uint64{0, 0x541c}, eperm},
			{"unix", at("socket"), []uint64{1}, allow},
			{"inet", at("socket"), []uint64{2}, allow},
			{"inet6", at("socketpair"), []uint64{10}, allow},
			{"netlink", at("socket"), []uint64{16}, allow},
			{"packet", at("socket"), []uint64{17}, family},
			{"vsock", at("socket"), []uint64{40}, family},
			{"chmod 755", at("fchmodat"), []uint64{0, 0, 0o755}, allow},
			{"chmod 4755", at("fchmodat"), []uint64{0, 0, 0o4755}, eperm},
			{"open for reading, with a mode of chance", at("openat"), []uint64{0, 0, 0, 0xffff}, allow},
			{"create", at("openat"), []uint64{0, 0, syscall.O_CREAT, 0o666}, allow},
			{"create setgid", at("openat"), []uint64{0, 0, syscall.O_CREAT, 0o2755}, eperm},
			{"O_TMPFILE setuid", at("openat"), []uint64{0, 0, 0x400000, 0o4755}, eperm},
			{"read", map[string]uint32{"amd64": 0, "arm64": 63}[arch], nil, allow},
		} {
			if got := answerOf(t, arch, audit, c.number, c.args...); got != c.want {
				t.Errorf("%s: %s: %#x, want %#x", arch, c.what, got, c.want)
			}
		}
		if got := answerOf(t, arch, 0x40000003, 1); got != killProcess {
			t.Errorf("%s: a 32-bit call: %#x", arch, got)
		}
		raw, err := Filter(arch)
		if err != nil || len(raw)%8 != 0 || len(raw) > 4096*8 {
			t.Errorf("%s: %d bytes, %v", arch, len(raw), err)
		}
	}
	if got := answerOf(t, "amd64", 0xc000003e, x32|1); got != enosys {
		t.Errorf("a call of x32: %#x", got)
	}
	if _, err := Filter("riscv64"); err == nil {
		t.Error("there is a filter for an architecture without numbers")
	}
}
