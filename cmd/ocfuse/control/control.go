package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrNoNode: no node is mounted there.
var ErrNoNode = errors.New("no ocfuse node is mounted there")

// ErrDeadNode: the node that was mounted there has died.
var ErrDeadNode = errors.New("the node mounted there has died")

// Request asks a node for something.
type Request struct {
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args,omitempty"`
}

// reply is a node's answer.
type reply struct {
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// Handler does what a request asks and returns a result to send as JSON. The
// context ends when the asker goes away.
type Handler func(ctx context.Context, op string, args json.RawMessage) (any, error)

// Server answers requests on a node's socket.
type Server struct {
	l    *net.UnixListener
	path string
	h    Handler
	wg   sync.WaitGroup
	ctx  context.Context
	stop context.CancelFunc
}

// Listen starts answering for the node mounted at a cleaned mount point. A
// socket left by a dead node is replaced.
func Listen(mnt string, h Handler) (*Server, error) {
	path, err := SocketPath(mnt)
	if err != nil {
		return nil, err
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("a node is mounted at %s already", mnt)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	s := &Server{l: l, path: path, h: h}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.wg.Add(1)
	go s.accept()
	return s, nil
}

func (s *Server) accept() {
	defer s.wg.Done()
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		s.wg.Add(1)
		go s.serve(c)
	}
}

// maxRequest bounds a request in bytes.
const maxRequest = 4096

func (s *Server) serve(c net.Conn) {
	defer s.wg.Done()
	defer c.Close()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	line, err := bufio.NewReaderSize(c, maxRequest).ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		err = errors.New("request is too long")
	}
	var req Request
	if err == nil {
		err = json.Unmarshal(line, &req)
	}
	var rep reply
	if err != nil {
		rep.Error = fmt.Sprintf("bad request: %v", err)
	} else {
		go func() { // the asker sends nothing more: reading ends when it leaves
			_, _ = c.Read(make([]byte, 1))
			cancel()
		}()
		rep = s.answer(ctx, req)
	}
	b, err := json.Marshal(rep)
	if err != nil {
		b, _ = json.Marshal(reply{Error: err.Error()})
	}
	_, _ = c.Write(append(b, '\n')) // the asker may be gone
}

func (s *Server) answer(ctx context.Context, req Request) reply {
	res, err := s.h(ctx, req.Op, req.Args)
	if err != nil {
		return reply{Error: err.Error()}
	}
	b, err := json.Marshal(res)
	if err != nil {
		return reply{Error: err.Error()}
	}
	return reply{Result: b}
}

// Close stops answering; requests being answered are waited for.
func (s *Server) Close() error {
	err := s.l.Close()
	_ = os.Remove(s.path)
	s.wg.Wait()
	s.stop()
	return err
}

// Call asks the node mounted at mnt (as given by a user) and decodes its
// result into out, which may be nil.
func Call(ctx context.Context, mnt, op string, args, out any) error {
	point, err := MountPoint(mnt)
	if err != nil {
		return err
	}
	path, err := SocketPath(point)
	if err != nil {
		return err
	}
	return call(ctx, path, point, op, args, out)
}

func call(ctx context.Context, path, mnt, op string, args, out any) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s: %w", mnt, ErrNoNode)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s: %w; mount again, or clean up with: umount -l %s", mnt, ErrDeadNode, mnt)
	case err != nil:
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	req := Request{Op: op}
	if args != nil {
		if req.Args, err = json.Marshal(args); err != nil {
			return err
		}
	}
	b, err := json.Marshal(req)
	if err != nil {
		return err
	}
	if _, err := c.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("asking the node at %s: %w", mnt, err)
	}
	var rep reply
	if err := json.NewDecoder(c).Decode(&rep); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("the node at %s ended before it answered: %w", mnt, err)
	}
	if rep.Error != "" {
		return errors.New(rep.Error)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(rep.Result, out)
}

// All calls op on every node of this user's runtime directory that answers and
// passes each result to fn.
func All(ctx context.Context, op string, fn func(result json.RawMessage)) error {
	d, err := Dir()
	if err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(d, "*.sock"))
	if err != nil {
		return err
	}
	for _, path := range names {
		var res json.RawMessage
		err := call(ctx, path, strings.TrimSuffix(filepath.Base(path), ".sock"), op, nil, &res)
		if err == nil {
			fn(res)
		}
	}
	return nil
}
