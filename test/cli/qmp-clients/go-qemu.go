// Drives a machine with go-qemu, as its users do. Prints a line for each call that is right, and ends with
// status 1 at the first that is not. Argument: the path of the QMP socket.
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/digitalocean/go-qemu/qemu"
	"github.com/digitalocean/go-qemu/qmp"
	"github.com/digitalocean/go-qemu/qmp/raw"
)

func expect(what string, err error, ok bool, found interface{}) {
	if err != nil || !ok {
		fmt.Printf("%s: %v (error: %v)\n", what, found, err)
		os.Exit(1)
	}
	fmt.Printf("%s: %v\n", what, found)
}

func main() {
	monitor, err := qmp.NewSocketMonitor("unix", os.Args[1], 5*time.Second)
	expect("socket", err, true, os.Args[1])
	err = monitor.Connect()
	expect("negotiation", err, true, "done")
	domain, err := qemu.NewDomain(monitor, "wherry")
	expect("domain", err, true, domain != nil)

	commands, err := domain.Commands()
	all := " " + strings.Join(commands, " ") + " "
	expect("commands", err, strings.Contains(all, " query-qmp-schema "), len(commands))
	version, err := domain.Version()
	expect("version", err, version == "10.0.0", version)
	name, err := domain.PackageVersion()
	expect("package", err, strings.HasPrefix(name, "wherry "), name)
	status, err := domain.Status()
	expect("status", err, status == qemu.StatusRunning, status)

	typed := raw.NewMonitor(monitor)
	info, err := typed.QueryStatus()
	expect("query-status", err, info.Running, info.Running)
	text, err := typed.HumanMonitorCommand("info status", nil)
	expect("human monitor", err, text == "VM status: running\n", strings.TrimSpace(text))
	err = typed.Stop()
	expect("stop", err, true, "done")
	info, err = typed.QueryStatus()
	expect("query-status", err, info.Status == raw.RunStatePaused, info.Status)
	err = typed.Cont()
	expect("cont", err, true, "done")
	err = domain.SystemReset()
	expect("system_reset", err, true, "done")
	migration, err := typed.QueryMigrate()
	expect("query-migrate", err, migration.Status == nil, "none")
	err = typed.Getfd("a")
	expect("getfd", nil, err != nil, err)
	err = typed.Quit()
	expect("quit", err, true, "done")
}
