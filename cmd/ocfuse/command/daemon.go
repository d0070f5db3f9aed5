package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/ocfuse/ocfuse/cmd/ocfuse/control"
)

// readyEnv names the descriptor on which a background node says that it is
// ready: one line, empty or what the user should know. An end without it is a
// failure.
const readyEnv = "OCFUSE_READY_FD"

// daemonize starts this program again in the background with --foreground and
// returns when the mount is ready or has failed. The child's messages until
// then are shown; afterwards they go to a log file in the runtime directory.
// flags are those of the node, without paths that depend on the working directory.
func daemonize(ctx context.Context, e *Env, device, mnt string, flags []string) error {
	point, err := control.MountPoint(mnt)
	if err != nil {
		return &ExitError{ExitMountUsage, err}
	}
	sock, err := control.SocketPath(point)
	if err != nil {
		return err
	}
	logPath := strings.TrimSuffix(sock, ".sock") + ".log"
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	defer log.Close()
	start, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if abs, err := filepath.Abs(device); err == nil {
		device = abs
	}
	cmd := exec.Command(self, append(append([]string{"mount", "--foreground"}, flags...), "--", device, point)...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{w}
	cmd.Env = append(os.Environ(), readyEnv+"=3")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		w.Close()
		return &ExitError{ExitMountSystem, err}
	}
	w.Close()
	return awaitReady(ctx, e, cmd, r, logPath, start)
}

// givenFlags repeats the flags that were given, options as -o, as arguments. The
// answer to --json is the parent's to print.
func givenFlags(given *pflag.FlagSet, options []string) []string {
	var args []string
	given.Visit(func(f *pflag.Flag) {
		if f.Name != "options" && f.Name != "json" {
			args = append(args, "--"+f.Name+"="+f.Value.String())
		}
	})
	for _, o := range options {
		args = append(args, "-o", o)
	}
	return args
}

func awaitReady(ctx context.Context, e *Env, cmd *exec.Cmd, r *os.File, logPath string, start int64) error {
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	note, err := bufio.NewReader(r).ReadString('\n')
	if err == nil {
		if note != "\n" {
			_, _ = io.WriteString(e.Err, note)
		}
		return cmd.Process.Release()
	}
	err = cmd.Wait()
	showLog(e, logPath, start)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return &ExitError{exit.ExitCode(), errors.New("the mount failed, see above")}
	}
	return &ExitError{ExitMountFailed, fmt.Errorf("the node ended before it was ready: %v", err)}
}

// showLog repeats what the background node said.
func showLog(e *Env, path string, from int64) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err == nil {
		_, _ = io.Copy(e.Err, f)
	}
}

// holdReady keeps the descriptor from the children of a background node.
func holdReady() {
	if fd, err := strconv.Atoi(os.Getenv(readyEnv)); err == nil {
		syscall.CloseOnExec(fd)
	}
}

// notifyReady tells a waiting parent that the mount can be used.
func notifyReady(note string) {
	fd, err := strconv.Atoi(os.Getenv(readyEnv))
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), "ready")
	_, _ = f.WriteString(strings.ReplaceAll(note, "\n", " ") + "\n") // the parent may have been killed
	_ = f.Close()
	_ = os.Unsetenv(readyEnv)
}
