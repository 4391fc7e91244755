package client

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// replaceFile replaces a file as a whole: after a crash there is the old one or
// the new one.
func replaceFile(path string, text []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
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

// cursorForm is what a cursor looks like; the server knows which ones are good.
var cursorForm = regexp.MustCompile(`^[0-9]{1,10}-[0-9]{1,16}$`)

// loadCursor reads a file that saveCursor wrote: "" if there is none yet.
func loadCursor(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return parseCursor(path, text)
}

func parseCursor(path string, text []byte) (string, error) {
	cursor := strings.TrimSuffix(string(text), "\n")
	if !cursorForm.MatchString(cursor) {
		return "", fmt.Errorf("%s holds no cursor: remove it to begin where From says", path)
	}
	return cursor, nil
}

func saveCursor(path, cursor string) error { return replaceFile(path, []byte(cursor+"\n")) }
