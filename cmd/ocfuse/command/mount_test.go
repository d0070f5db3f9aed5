package command

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
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
