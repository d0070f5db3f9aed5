package command

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestArguments: mount(8) starts a helper in its own way.
func TestArguments(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"/usr/bin/ocfuse status /mnt", "status /mnt"},
		{"ocfuse mount /dev/a /mnt", "mount /dev/a /mnt"},
		{"ocfuse", ""},
		{"/sbin/mount.fuse.ocfuse /dev/a /mnt -o rw,node=1 -t fuse.ocfuse", "mount /dev/a /mnt -o rw,node=1"},
		{"mount.ocfuse /dev/a /mnt -sn -v", "mount /dev/a /mnt"},
		{"mount.ocfuse /dev/a /mnt -fv -o ro", "mount /dev/a /mnt --fake -o ro"},
		{"ocfuse /dev/a /mnt -o rw,node=1", "mount /dev/a /mnt -o rw,node=1"},
		{"mount.ocfuse /dev/a /mnt -N ns", "mount /dev/a /mnt -N ns"},
	} {
		if got := Arguments(strings.Fields(c.in)); !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s: %q, want %q", c.in, got, c.want)
		}
	}
}

// TestMountClusterOptions: what /etc/fstab has no flags for can be said with -o;
// a flag counts more.
func TestMountClusterOptions(t *testing.T) {
	parse := func(args string) (o mountOptions, err error) {
		f := pflag.NewFlagSet("mount", pflag.ContinueOnError)
		o.register(f)
		if err := f.Parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		return o, o.takeClusterOptions(f)
	}
	o, err := parse("--stack dlm -o rw,node=3,config=/c -o membership=manual,members=1:3,stack=local,noatime")
	if err != nil {
		t.Fatal(err)
	}
	if o.node != 3 || o.config != "/c" || o.membership != "manual" || o.members != "1 3" || o.stack != "dlm" {
		t.Errorf("%+v", o)
	}
	if got := strings.Join(o.options, ","); got != "rw,noatime" {
		t.Errorf("left: %s", got)
	}
	for _, bad := range []string{"node=x", "node=", "node", "config="} {
		if _, err := parse("-o " + bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
