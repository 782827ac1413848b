package sandbox

import (
	"syscall"

	"golang.org/x/net/bpf"
)

// The columns of the tables.
const (
	amd64 = iota
	arm64
)

// none: the architecture has no such call.
const none = -1

type numbers [2]int

// refused are the calls that always fail. It is Flatpak's list, and what gives access
// to the kernel's less tested parts or to other processes. ENOSYS is for calls that
// programs know to do without.
var refused = []struct {
	name   string
	number numbers
	errno  syscall.Errno
}{
	{"syslog", numbers{103, 116}, syscall.EPERM},
	{"uselib", numbers{134, none}, syscall.EPERM},
	{"acct", numbers{163, 89}, syscall.EPERM},
	{"quotactl", numbers{179, 60}, syscall.EPERM},
	{"quotactl_fd", numbers{443, 443}, syscall.EPERM},
	{"add_key", numbers{248, 217}, syscall.EPERM},
	{"keyctl", numbers{250, 219}, syscall.EPERM},
	{"request_key", numbers{249, 218}, syscall.EPERM},
	{"move_pages", numbers{279, 239}, syscall.EPERM},
	{"mbind", numbers{237, 235}, syscall.EPERM},
	{"set_mempolicy", numbers{238, 237}, syscall.EPERM},
	{"migrate_pages", numbers{256, 238}, syscall.EPERM},
	{"unshare", numbers{272, 97}, syscall.EPERM},
	{"setns", numbers{308, 268}, syscall.EPERM},
	{"mount", numbers{165, 40}, syscall.EPERM},
	{"umount2", numbers{166, 39}, syscall.EPERM},
	{"pivot_root", numbers{155, 41}, syscall.EPERM},
	{"chroot", numbers{161, 51}, syscall.EPERM},
	{"perf_event_open", numbers{298, 241}, syscall.EPERM},
	{"ptrace", numbers{101, 117}, syscall.EPERM},
	{"process_vm_readv", numbers{310, 270}, syscall.EPERM},
	{"process_vm_writev", numbers{311, 271}, syscall.EPERM},
	{"kcmp", numbers{312, 272}, syscall.EPERM},
	{"pidfd_getfd", numbers{438, 438}, syscall.EPERM},
	{"personality", numbers{135, 92}, syscall.EPERM},
	{"bpf", numbers{321, 280}, syscall.EPERM},
	{"userfaultfd", numbers{323, 282}, syscall.EPERM},
	{"kexec_load", numbers{246, 104}, syscall.EPERM},
	{"kexec_file_load", numbers{320, 294}, syscall.EPERM},
	{"init_module", numbers{175, 105}, syscall.EPERM},
	{"finit_module", numbers{313, 273}, syscall.EPERM},
	{"delete_module", numbers{176, 106}, syscall.EPERM},
	{"open_by_handle_at", numbers{304, 265}, syscall.EPERM},
	{"lookup_dcookie", numbers{212, 18}, syscall.EPERM},
	{"modify_ldt", numbers{154, none}, syscall.EPERM},
	{"swapon", numbers{167, 224}, syscall.EPERM},
	{"swapoff", numbers{168, 225}, syscall.EPERM},
	{"reboot", numbers{169, 142}, syscall.EPERM},

	{"clone3", numbers{435, 435}, syscall.ENOSYS}, // its flags cannot be inspected (CVE-2021-41133)
	{"open_tree", numbers{428, 428}, syscall.ENOSYS},
	{"move_mount", numbers{429, 429}, syscall.ENOSYS},
	{"fsopen", numbers{430, 430}, syscall.ENOSYS},
	{"fsconfig", numbers{431, 431}, syscall.ENOSYS},
	{"fsmount", numbers{432, 432}, syscall.ENOSYS},
	{"fspick", numbers{433, 433}, syscall.ENOSYS},
	{"mount_setattr", numbers{442, 442}, syscall.ENOSYS},
	{"io_uring_setup", numbers{425, 425}, syscall.ENOSYS}, // what goes through it passes no filter
	{"io_uring_enter", numbers{426, 426}, syscall.ENOSYS},
	{"io_uring_register", numbers{427, 427}, syscall.ENOSYS},
	{"memfd_secret", numbers{447, 447}, syscall.ENOSYS},
	{"shmget", numbers{29, 194}, syscall.ENOSYS},     // memory that belongs to no process
	{"openat2", numbers{437, 437}, syscall.ENOSYS},   // its mode cannot be inspected
	{"fchmodat2", numbers{452, 452}, syscall.ENOSYS}, // as chmod below, but newer: all fall back
}

// inspected are the calls whose arguments decide. A body that does not answer lets
// the call pass.
var inspected = []struct {
	name   string
	number numbers
	body   []bpf.Instruction
}{
	{"clone", numbers{56, 220}, ifAny(0, newNamespaces)},
	// TIOCSTI and TIOCLINUX type into a terminal.
	{"ioctl", numbers{16, 29}, ifEqual(1, 0x5412, 0x541c)},
	// No AF_VSOCK, which belongs to no network namespace, and no rare protocols.
	{"socket", numbers{41, 198}, unlessEqual(0, syscall.AF_UNIX, syscall.AF_INET, syscall.AF_INET6, syscall.AF_NETLINK)},
	{"socketpair", numbers{53, 199}, unlessEqual(0, syscall.AF_UNIX, syscall.AF_INET, syscall.AF_INET6, syscall.AF_NETLINK)},
	// No file that runs as the server's user when somebody else starts it.
	{"chmod", numbers{90, none}, ifAny(1, setID)},
	{"fchmod", numbers{91, 52}, ifAny(1, setID)},
	{"fchmodat", numbers{268, 53}, ifAny(2, setID)},
	{"open", numbers{2, none}, ifCreates(1, 2)},
	{"openat", numbers{257, 56}, ifCreates(2, 3)},
	{"creat", numbers{85, none}, ifAny(1, setID)},
	{"mknod", numbers{133, none}, ifAny(1, setID)},
	{"mknodat", numbers{259, 33}, ifAny(2, setID)},
}
