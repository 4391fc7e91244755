package localpg

import "syscall"

// endWithUs has the kernel shut Postgres down when the thread that started it
// ends, even by SIGKILL.
func endWithUs(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGINT }
