package local

import (
	"fmt"
	"testing"
)

// BenchmarkDeploy measures a deploy until it is safe on disk.
func BenchmarkDeploy(b *testing.B) {
	for _, n := range []int{3, 300, 3000} {
		b.Run(fmt.Sprint(n, "files"), func(b *testing.B) {
			files := map[string]string{}
			for i := range n {
				files[fmt.Sprintf("d%d/%d.html", i%20, i)] = fmt.Sprint("<p>", i)
			}
			target := New(Config{Dir: b.TempDir()})
			dir := output(b, files)
			for b.Loop() {
				if _, err := publish(b.Context(), target, "27", dir, quiet); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
