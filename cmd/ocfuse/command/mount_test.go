package command

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMountFiles: the background node works in another folder, so it must be told
// absolute names.
func TestMountFiles(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	got, err := mountOptions{config: "my.conf", timeouts: "/etc/o2cb"}.files()
	if want := []string{"--config=" + filepath.Join(wd, "my.conf"), "--timeouts=/etc/o2cb"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if got, err := (mountOptions{}).files(); err != nil || len(got) != 0 {
		t.Errorf("%v, %v without files", got, err)
	}
}

// TestMountOptionValues: values were taken from options that have none, and
// numbers too large for a time became the default.
func TestMountOptionValues(t *testing.T) {
	for opt, words := range map[string]string{
		"ro=1":                "ro=1: takes no value",
		"nosuid=yes":          "takes no value",
		"commit":              `commit: "" is not a number`,
		"commit=soon":         `"soon" is not a number`,
		"commit=-1":           "not a number of 0",
		"commit=99999999999":  "not a number of 0",
		"preferred_slot=":     `"" is not a number`,
		"rw=1":                "not known",
		"errors=panic":        "never stop the host",
		"localalloc=16":       "cannot be chosen",
		"data=writeback":      "before the metadata",
		"nonsense":            `"nonsense" is not known`,
		"ro,commit=5,acl":     "acl",
		"ro, ,preferred_slot": "preferred_slot",
	} {
		if _, err := parseMountOptions([]string{opt}); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("-o %s: %v, want %q", opt, err, words)
		}
	}
	p, err := parseMountOptions([]string{"ro,commit=30", "preferred_slot=2,errors=remount-ro,resv_level=2,x-systemd.automount", "noexec"})
	if err != nil || !p.volume.ReadOnly || p.volume.CommitInterval != 30*time.Second || p.volume.Slot != 2 || !p.fuse.NoExec {
		t.Errorf("%+v, %v", p, err)
	}
}
