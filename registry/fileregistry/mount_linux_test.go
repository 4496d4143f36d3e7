package fileregistry_test

import "syscall"

// mountSmall mounts an empty file system of 64 KiB on dir; only root may.
func mountSmall(dir string) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=700")
}

func unmount(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
