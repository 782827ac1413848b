package outputs

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// maxPiece is the most that one read returns, in bytes. A pipe of this package
// returns at most PIPE_BUF (4096) bytes, unless the command changed it.
const maxPiece = 64 << 10

// pipe is one of the command's outputs.
type pipe struct {
	stream  Stream
	from    int // the pipe's reading end; -1 when it is closed
	to      *os.File
	unsent  []byte // read, but the receiver takes no more at the moment
	watched bool   // the receiver is known to epoll
	full    int    // how many of the last pieces were as large as they can be
	hungUp  bool   // nobody writes to it any longer
	more    bool   // there is more to read, or its end
}

// poller reads the pipes in the order in which epoll queued them: with edge
// triggering a write queues its pipe, unless the pipe is queued already. A pipe
// that holds one write is in the queue once for each write, so each time that it
// comes up one piece is read.
type poller struct {
	epoll, wake int
	pipes       [2]*pipe
	record      Record
	buf         []byte
	stopping    bool
}

func open(to [2]*os.File, record Record) (ends [2]*os.File, c copier, err error) {
	p := &poller{epoll: -1, wake: -1, record: record, buf: make([]byte, maxPiece)}
	defer func() {
		if err != nil {
			p.close()
			for _, f := range ends {
				f.Close() // of a nil file it does nothing
			}
		}
	}()
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return ends, nil, os.NewSyscallError("epoll_create", err)
	}
	if p.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return ends, nil, os.NewSyscallError("eventfd", err)
	}
	if err = p.watch(p.wake, unix.EPOLLIN|unix.EPOLLONESHOT); err != nil {
		return ends, nil, err
	}
	for i := range p.pipes {
		from, end, err := onePiecePipe()
		if err != nil {
			return ends, nil, err
		}
		ends[i] = end
		p.pipes[i] = &pipe{stream: Stream(i), from: from, to: to[i]}
		if err = p.watch(from, unix.EPOLLIN|unix.EPOLLET); err != nil {
			return ends, nil, err
		}
	}
	return ends, p, nil
}

// onePiecePipe returns a pipe that holds one write of at most PIPE_BUF bytes. Only
// its reading end does not block.
func onePiecePipe() (from int, end *os.File, err error) {
	var fds [2]int
	// O_DIRECT keeps writes apart. Without it (gVisor, some old kernels) and without
	// the small size the order is less exact; nothing else depends on them.
	if err = unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_DIRECT); err != nil {
		err = unix.Pipe2(fds[:], unix.O_CLOEXEC)
	}
	if err != nil {
		return -1, nil, os.NewSyscallError("pipe", err)
	}

	setSize(fds[0], os.Getpagesize())
	end = os.NewFile(uintptr(fds[1]), "pipe")
	if err = unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		end.Close()
		return -1, nil, os.NewSyscallError("fcntl", err)
	}
	return fds[0], end, nil
}

func (p *poller) watch(fd int, events uint32) error { return p.control(unix.EPOLL_CTL_ADD, fd, events) }

func (p *poller) control(op, fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

func (p *poller) run() {
	var events [5]unix.EpollEvent
	for !p.finished() {
		n, err := unix.EpollWait(p.epoll, events[:], p.timeout())
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		for _, e := range events[:max(n, 0)] {
			p.handle(int(e.Fd), e.Events)
		}
		for _, q := range p.pipes {
			if q.more && q.unsent == nil && (q.eager() || n == 0) {
				p.read(q)
			}
		}
	}
}

// patience is how long epoll is asked, in milliseconds, before a pipe is read that
// holds more without having been queued: the command made it larger. Until then
// the other pipe may be first.
const patience = 1

// timeout is how long to wait for epoll, in milliseconds; -1 is without limit.
func (p *poller) timeout() int {
	timeout := -1
	for _, q := range p.pipes {
		switch {
		case !q.more || q.unsent != nil:
		case q.eager():
			return 0
		default:
			timeout = patience
		}
	}
	return timeout
}

// eager reports whether the pipe is read until it is empty: what is in it has no
// exact order any longer.
func (q *pipe) eager() bool { return q.hungUp || q.full >= bulkAfter }

// finished reports whether both pipes are closed, or nothing is left to be passed
// on after stop.
func (p *poller) finished() bool {
	return !slices.ContainsFunc(p.pipes[:], func(q *pipe) bool {
		return q.unsent != nil || q.from >= 0 && !p.stopping
	})
}

// handle acts on a descriptor that is ready.
func (p *poller) handle(fd int, events uint32) {
	if fd == p.wake {
		p.stopping = true
	}
	for _, q := range p.pipes {
		switch {
		case fd == q.from:
			q.hungUp = q.hungUp || events&(unix.EPOLLHUP|unix.EPOLLERR) != 0
			q.more = true // also if it cannot be passed on now
			if q.unsent == nil {
				p.read(q)
			}
		case fd == p.wake && q.unsent == nil && q.from >= 0:
			p.read(q) // what is there now
		case q.unsent != nil && fd == int(q.to.Fd()):
			p.send(q)
		}
	}
}

func (p *poller) read(q *pipe) {
	n, err := unix.Read(q.from, p.buf)
	switch {
	case errors.Is(err, unix.EINTR):
		q.more = true
		return
	case errors.Is(err, unix.EAGAIN):
		q.more = false
		return
	case err != nil || n == 0:
		p.closeFrom(q)
		return
	}
	p.resize(q, n)
	q.unsent = p.buf[:n]
	if takesMore(q.to) || !p.awaitReceiver(q) {
		p.send(q)
		return
	}
	q.unsent = slices.Clone(q.unsent) // buf is for the other pipe
}

// awaitReceiver has epoll tell when the receiver takes more. It returns false for
// a file that epoll does not take: writing to it may block.
func (p *poller) awaitReceiver(q *pipe) bool {
	op := unix.EPOLL_CTL_ADD
	if q.watched {
		op = unix.EPOLL_CTL_MOD
	}
	q.watched = p.control(op, int(q.to.Fd()), unix.EPOLLOUT|unix.EPOLLONESHOT) == nil
	return q.watched
}

// send passes on what was read.
func (p *poller) send(q *pipe) {
	n, err := q.to.Write(q.unsent)
	p.record(q.stream, q.unsent[:n])
	q.unsent = nil
	if err != nil {
		p.closeFrom(q) // a command that goes on writing gets SIGPIPE
		return
	}
	waiting, err := unix.IoctlGetInt(q.from, unix.TIOCINQ)
	q.more = q.hungUp || err == nil && waiting > 0
}

func setSize(pipe, size int) { _, _ = unix.FcntlInt(uintptr(pipe), unix.F_SETPIPE_SZ, size) }

// In bulk, when a command writes pieces of PIPE_BUF bytes one after the other, it
// would wait for this process too often.
const (
	pipeBuf   = 4096
	bulkAfter = 16       // full pieces
	bulkSize  = 64 << 10 // the size of a pipe then: the usual one
)

// resize enlarges the pipe when output comes in bulk, and makes it small again
// when it does not.
func (p *poller) resize(q *pipe, piece int) {
	switch {
	case piece >= pipeBuf:
		if q.full++; q.full == bulkAfter {
			setSize(q.from, bulkSize)
		}
	case q.full >= bulkAfter:
		setSize(q.from, os.Getpagesize()) // refused if it holds more: then with a later piece
		if n, err := unix.FcntlInt(uintptr(q.from), unix.F_GETPIPE_SZ, 0); err != nil || n < bulkSize {
			q.full = 0
			p.requeue(q)
		}
	default:
		q.full = 0
	}
}

// requeue makes epoll forget that it queued the pipe for what has been read
// meanwhile, and queue it for what is in it.
func (p *poller) requeue(q *pipe) {
	_ = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, q.from, nil)
	if p.watch(q.from, unix.EPOLLIN|unix.EPOLLET) != nil {
		q.hungUp = true // read without being told
	}
}

// takesMore reports whether a write of PIPE_BUF bytes does not block.
func takesMore(f *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLOUT}}
	_, err := unix.Poll(fds, 0)
	return err != nil || fds[0].Revents != 0 // an error of the file is for Write to return
}

func (p *poller) closeFrom(q *pipe) {
	if q.from >= 0 {
		unix.Close(q.from)
		q.from, q.more = -1, false
	}
}

func (p *poller) stop() {
	_, _ = unix.Write(p.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func (p *poller) close() {
	for _, q := range p.pipes {
		if q != nil {
			p.closeFrom(q)
		}
	}
	for _, fd := range []int{p.epoll, p.wake} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
