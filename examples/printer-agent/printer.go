package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// slowPage is how long a page takes on a printer that is slow.
const slowPage = 2 * time.Second

// printer is a virtual printer: a folder, in which a page is a file. For real
// printers write another one, with these three methods.
type printer struct{ id, dir string }

func newPrinter(id, folder string) (printer, error) {
	p := printer{id, filepath.Join(folder, filepath.Base(id))}
	return p, os.MkdirAll(p.dir, 0o755)
}

// trouble is why it cannot print now: paper_out, cover_open, offline; "" if it can.
func (p printer) trouble() string {
	if s := p.says(); s != "online" && s != "slow" {
		return s
	}
	return ""
}

// says is what is in the file "status". Without one the printer is online.
func (p printer) says() string {
	text, _ := os.ReadFile(filepath.Join(p.dir, "status"))
	if status := strings.TrimSpace(string(text)); status != "" {
		return status
	}
	return "online"
}

// has reports whether a job came out of it. A real printer does not know: then
// say true to risk that a page is missing, or false to risk that it is there
// twice.
func (p printer) has(job string) bool {
	_, err := os.Stat(p.page(job))
	return err == nil
}

// print returns when the page is out: it has its name when all of it is on the
// disk, so it is there whole or not at all, and once.
func (p printer) print(job, text string) error {
	if p.says() == "slow" {
		<-time.After(slowPage)
	}
	paper := filepath.Join(p.dir, "."+job)
	if err := write(paper, []byte(text+"\n")); err != nil {
		return err
	}
	if err := os.Rename(paper, p.page(job)); err != nil {
		return err
	}
	return syncFolder(p.dir)
}

func (p printer) page(job string) string { return filepath.Join(p.dir, job+".txt") }

// write writes a file, and waits until it is on the disk.
func write(path string, text []byte) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Sync(), file.Close())
}

// syncFolder waits until the names of the files in a folder are on the disk.
// Windows has no such call, and needs none.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
