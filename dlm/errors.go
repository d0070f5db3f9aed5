package dlm

import "fmt"

func errorf(kind error, why string) error { return fmt.Errorf("%w: %s", kind, why) }
