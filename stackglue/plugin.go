package stackglue

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
)

// Plugin is one cluster stack (struct ocfs2_stack_plugin). Stacks register
// one from init; cmd decides which are linked in.
type Plugin interface {
	// Name is how users and labels call it: "local", "dlm", "o2cb".
	Name() string
	// Labels are the on-disk cluster stack labels it serves ("pcmk"; ""
	// stands for a volume without a label).
	Labels() []string
	// Connect joins the group; see the contract in the package comment.
	Connect(ctx context.Context, cfg Config) (Conn, error)
}

var registry struct {
	mu      sync.Mutex
	plugins map[string]Plugin
	active  map[string]int // connections per plugin (sp_count)
}

// Register makes a stack available. Registering a name twice is a
// programming error.
func Register(p Plugin) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if registry.plugins == nil {
		registry.plugins, registry.active = map[string]Plugin{}, map[string]int{}
	}
	if _, dup := registry.plugins[p.Name()]; dup {
		panic("stackglue: stack " + p.Name() + " registered twice") // invariant: init order
	}
	registry.plugins[p.Name()] = p
}

// Stacks returns the names of the registered stacks, sorted.
func Stacks() []string {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	var names []string
	for n := range registry.plugins {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// ForLabel returns the name of the stack that serves an on-disk label.
func ForLabel(label string) (string, error) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	for n, p := range registry.plugins {
		for _, l := range p.Labels() {
			if l == label {
				return n, nil
			}
		}
	}
	return "", fmt.Errorf("no cluster stack of this program serves volumes labelled %q: relabel it with tunefs.ocfs2, or make a new volume (ocfuse mkfs --cluster-stack pcmk): %w", label, ErrUnsupported)
}

// Connect joins cfg.Group through the named stack.
func Connect(ctx context.Context, stack string, cfg Config) (Conn, error) {
	registry.mu.Lock()
	p := registry.plugins[stack]
	if p != nil {
		registry.active[stack]++
	}
	registry.mu.Unlock()
	if p == nil {
		return nil, fmt.Errorf("no cluster stack %q (there are: %s)", stack, strings.Join(Stacks(), ", "))
	}
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	c, err := p.Connect(ctx, cfg)
	if err != nil {
		release(stack)
		return nil, fmt.Errorf("stack %s, group %s: %w", stack, cfg.Group, err)
	}
	return &counted{Conn: c, stack: stack}, nil
}

func release(stack string) {
	registry.mu.Lock()
	registry.active[stack]--
	registry.mu.Unlock()
}

// InUse returns how many connections a stack serves.
func InUse(stack string) int {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	return registry.active[stack]
}

// counted drops the plugin's reference once, however the connection ends.
type counted struct {
	Conn
	stack string
	once  sync.Once
}

// Unwrap returns the stack's own connection, for Admin and the like.
func (c *counted) Unwrap() Conn { return c.Conn }

// Disconnect implements Conn.
func (c *counted) Disconnect(ctx context.Context) error {
	err := c.Conn.Disconnect(ctx)
	c.once.Do(func() { release(c.stack) })
	return err
}

// Abort implements Conn.
func (c *counted) Abort() {
	c.Conn.Abort()
	c.once.Do(func() { release(c.stack) })
}

// AsAdmin returns the connection's membership control, if it has one.
func AsAdmin(c Conn) (Admin, bool) {
	if u, ok := c.(interface{ Unwrap() Conn }); ok {
		c = u.Unwrap()
	}
	a, ok := c.(Admin)
	return a, ok
}
