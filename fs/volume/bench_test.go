package volume_test

import (
	"fmt"
	"testing"
)

// BenchmarkCreate and BenchmarkUnlink measure names without FUSE and without a
// cluster: what the volume itself costs.
func BenchmarkCreate(b *testing.B) {
	m := mount(b, newImage(b, 2<<30))
	defer m.umount()
	b.ResetTimer()
	for k := range b.N {
		if err := m.touch(fmt.Sprintf("/f%d", k)); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
}

func BenchmarkUnlink(b *testing.B) {
	m := mount(b, newImage(b, 2<<30))
	defer m.umount()
	for k := range b.N {
		if err := m.touch(fmt.Sprintf("/f%d", k)); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for k := range b.N {
		if err := m.unlink(fmt.Sprintf("/f%d", k)); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
}
