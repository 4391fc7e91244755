package localpg

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// account is the operating system user that Postgres runs as: ourselves, unless
// we are root.
type account struct {
	name       string
	credential *syscall.Credential // nil: ourselves
}

func findAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return account{}, fmt.Errorf("user %s: %w", name, err)
		}
		return account{name, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return account{}, errors.New("postgres does not run as root, and there is no user postgres or nobody to run it as")
}

// attributes are those of a process of this account, in a process group of its
// own: Ctrl-C in the terminal is for us, and we stop Postgres in our own order.
func (a account) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: a.credential, Setpgid: true}
}

// own hands a file over to the account.
func (a account) own(path string) error {
	if a.credential == nil {
		return nil
	}
	return os.Lchown(path, int(a.credential.Uid), int(a.credential.Gid))
}

// canEnter asks the kernel, which knows modes, access lists and mounts.
func (a account) canEnter(dir string) bool {
	if a.credential == nil {
		return true
	}
	probe := exec.Command("/bin/sh", "-c", ":") //nolint:noctx // it ends at once
	probe.Dir = dir
	probe.SysProcAttr = a.attributes()
	return probe.Run() == nil
}
