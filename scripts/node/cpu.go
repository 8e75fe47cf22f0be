package node

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// CPU is the processor time in seconds that a process has used, where /proc tells it.
func CPU(pid int) (sum float64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The fields after the name, which is in brackets: utime and stime, in hundredths of a second, are the 12th and 13th.
	_, rest, _ := strings.Cut(string(data), ") ")
	for _, field := range strings.Fields(rest)[11:13] {
		ticks, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, err
		}
		sum += ticks / 100
	}
	return sum, nil
}

// CPU is the processor time in seconds that the node has used since it was started.
func (n *Node) CPU() (float64, error) { return CPU(n.cmd.Process.Pid) }
