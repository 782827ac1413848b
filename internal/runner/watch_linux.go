package runner

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// watchEvery is the time between two looks at a command's processes, if a look is
	// quick. Looking takes at most one part in watchShare of the time.
	watchEvery = 50 * time.Millisecond
	watchShare = 20
	// measureEvery is the longest time between two measurements of its directories.
	measureEvery = 30 * time.Second
	// leastFile is what a file counts for at least, in bytes: an empty one has no block,
	// but takes one of the file system's inodes.
	leastFile = 4 << 10
)

// watcher ends a command that exceeds a limit which the kernel does not hold for all
// its processes together. It belongs to the supervisor.
type watcher struct {
	limits Limits
	dirs   []string // of the command

	used      int64     // bytes of the command's files, when they were measured
	free      int64     // of their file system, then, with its inodes
	measured  time.Time // zero: not yet
	nextCheck time.Time
}

// watch returns the name of the first limit that is exceeded; empty when done is closed.
func (w *watcher) watch(done <-chan struct{}) string {
	root := os.Getpid()
	for {
		began := time.Now()
		if name := w.look(root, done); name != "" {
			return name
		}
		select {
		case <-done:
			return ""
		case <-time.After(max(watchEvery, watchShare*time.Since(began))):
		}
	}
}

func (w *watcher) look(root int, done <-chan struct{}) string {
	pids, tasks := descendants(root, w.limits.Processes)
	if w.limits.Processes > 0 && tasks > w.limits.Processes {
		return limitProcesses
	}
	if w.limits.Memory > 0 && memoryOf(pids, quickMemory) > w.limits.Memory && memoryOf(pids, exactMemory) > w.limits.Memory {
		return limitMemory
	}
	if w.limits.Disk > 0 && w.overDisk(pids, done) {
		return limitDisk
	}
	return ""
}

// descendants returns the processes below root, and how many processes and threads
// they are. It stops counting beyond the limit.
func descendants(root, limit int) (pids []int, tasks int) {
	queue := []int{root}
	for len(queue) > 0 && (limit <= 0 || tasks <= limit) {
		pid := queue[0]
		queue = queue[1:]
		dir := fmt.Sprintf("/proc/%d/task", pid)
		threads, err := os.ReadDir(dir)
		if err != nil {
			continue // it has ended
		}
		for _, t := range threads {
			children, _ := os.ReadFile(dir + "/" + t.Name() + "/children")
			for field := range strings.FieldsSeq(string(children)) {
				if child, err := strconv.Atoi(field); err == nil {
					queue = append(queue, child)
				}
			}
		}
		if pid != root {
			pids = append(pids, pid)
			tasks += len(threads)
		}
	}
	return pids, tasks
}

// The two ways to measure a process: its resident memory, of which processes may share
// a part; and its share of that, which takes the kernel longer. Files that are mapped
// do not count: their pages can be dropped.
var (
	quickMemory = measure{"status", []string{"RssAnon:", "RssShmem:", "VmSwap:"}}
	exactMemory = measure{"smaps_rollup", []string{"Pss_Anon:", "Pss_Shmem:", "SwapPss:"}}
)

type measure struct {
	file   string
	fields []string
}

func memoryOf(pids []int, m measure) (total int64) {
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, m.file))
		if err != nil {
			// The kernel refuses smaps_rollup of a process that protects itself: what is
			// quick has to do.
			if b, err = os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, quickMemory.file)); err != nil {
				continue
			}
			total += kilobytes(b, quickMemory.fields) << 10
			continue
		}
		total += kilobytes(b, m.fields) << 10
	}
	return total
}

// kilobytes sums the fields, as in "RssAnon:      1234 kB".
func kilobytes(b []byte, fields []string) (sum int64) {
	for line := range bytes.Lines(b) {
		for _, f := range fields {
			if rest, ok := bytes.CutPrefix(line, []byte(f)); ok {
				n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(rest)), " kB"), 10, 64)
				sum += n
			}
		}
	}
	return sum
}

// overDisk measures the directories if they may be too large: if so much less of the
// file system is free, or a long time has passed. Reading many files takes long.
func (w *watcher) overDisk(pids []int, done <-chan struct{}) bool {
	var st unix.Statfs_t
	if time.Now().Before(w.nextCheck) || unix.Statfs(w.dirs[0], &st) != nil {
		return false
	}
	free := int64(st.Bavail)*st.Bsize + int64(st.Ffree)*leastFile
	if !w.measured.IsZero() && w.used+w.free-free <= w.limits.Disk && time.Since(w.measured) < measureEvery {
		return false
	}
	began := time.Now()
	w.used, w.free = removedOf(pids, w.dirs[0]), free
	for _, dir := range w.dirs {
		w.used += diskOf(dir, w.limits.Disk-w.used, done)
	}
	w.measured = time.Now()
	w.nextCheck = w.measured.Add(watchShare * time.Since(began))
	return w.used > w.limits.Disk
}

// diskOf returns how many bytes the files below dir take on the disk. It stops beyond
// enough, and when done is closed.
func diskOf(dir string, enough int64, done <-chan struct{}) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d == nil {
			return nil //nolint:nilerr // it has been removed meanwhile
		}
		if info, err := d.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				total += max(st.Blocks*512, leastFile) / max(1, int64(st.Nlink))
			}
		}
		select {
		case <-done:
			return fs.SkipAll
		default:
		}
		if total > enough {
			return fs.SkipAll
		}
		return nil
	})
	return total
}

// removedOf returns how many bytes the removed files take that the processes have open:
// they are in no directory, and stay on the disk. dir is on the same file system.
func removedOf(pids []int, dir string) (total int64) {
	var top unix.Stat_t
	if unix.Stat(dir, &top) != nil {
		return 0
	}
	seen := map[uint64]bool{} // by inode: processes share files
	for _, pid := range pids {
		fds := fmt.Sprintf("/proc/%d/fd/", pid)
		open, _ := os.ReadDir(fds) // an error: it has ended
		for _, fd := range open {
			var st unix.Stat_t
			if unix.Stat(fds+fd.Name(), &st) == nil && st.Nlink == 0 && st.Dev == top.Dev && !seen[st.Ino] {
				seen[st.Ino] = true
				total += st.Blocks * 512
			}
		}
	}
	return total
}
