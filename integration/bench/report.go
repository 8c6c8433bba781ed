package bench

import (
	"fmt"
	"strings"
)

// goals are ratios to the hard floor. Zero: no goal.
type goals struct {
	perSecond float64 // at least
	p99, cpu  float64 // at most
}

// comparison is one load on the daemon and on both floors.
type comparison struct {
	load               load
	note               string // what else is special about this daemon
	daemon, bare, hard sample
	goals              goals
}

func (c comparison) name() string { return c.load.String() + c.note }

// perSecond, p99 and cpu are ratios to a floor.
func (c comparison) perSecond(floor sample) float64 { return c.daemon.perSecond / floor.perSecond }
func (c comparison) p99(floor sample) float64       { return c.daemon.p99 / floor.p99 }
func (c comparison) cpu(floor sample) float64       { return c.daemon.cpu / floor.cpu }

// report is the comparisons of one run. It prints the Markdown tables of docs/performance.md.
type report struct{ comparisons []comparison }

func (r *report) add(c comparison) { r.comparisons = append(r.comparisons, c) }

// missed returns one line for each missed goal.
func (r *report) missed() []string {
	var lines []string
	for _, c := range r.comparisons {
		if got := c.perSecond(c.hard); got < c.goals.perSecond {
			lines = append(lines, fmt.Sprintf("%s: %.3f of hard's requests a second, goal: at least %.2f", c.name(), got, c.goals.perSecond))
		}
		if got := c.p99(c.hard); exceeds(got, c.goals.p99) {
			lines = append(lines, fmt.Sprintf("%s: %.3f times hard's p99, goal: at most %.2f", c.name(), got, c.goals.p99))
		}
		if got := c.cpu(c.hard); exceeds(got, c.goals.cpu) {
			lines = append(lines, fmt.Sprintf("%s: %.3f times hard's CPU per request, goal: at most %.2f", c.name(), got, c.goals.cpu))
		}
	}
	return lines
}

// exceeds ignores what two decimal digits of a goal do not show.
func exceeds(ratio, goal float64) bool { return goal > 0 && ratio > goal+1e-9 }

// String returns three tables: the goals, the ratios to the bare floor, absolute figures.
func (r *report) String() string {
	var b strings.Builder
	b.WriteString("| of `hard` | requests a second | p99 | CPU per request | allocations more |\n|---|---|---|---|---|\n")
	for _, c := range r.comparisons {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %.0f |\n", c.name(),
			atLeast(c.perSecond(c.hard), c.goals.perSecond), atMost(c.p99(c.hard), c.goals.p99), atMost(c.cpu(c.hard), c.goals.cpu),
			c.daemon.mallocs-c.hard.mallocs)
	}
	b.WriteString("\n| of `bare` | requests a second | p99 | CPU per request | allocations more |\n|---|---|---|---|---|\n")
	for _, c := range r.comparisons {
		fmt.Fprintf(&b, "| %s | %.2f | %.2f | %.2f | %.0f |\n", c.name(),
			c.perSecond(c.bare), c.p99(c.bare), c.cpu(c.bare), c.daemon.mallocs-c.bare.mallocs)
	}
	b.WriteString("\n| requests a second, p99, CPU per request, allocations | daemon | `hard` | `bare` |\n|---|---|---|---|\n")
	for _, c := range r.comparisons {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.name(), c.daemon, c.hard, c.bare)
	}
	return b.String()
}

func (s sample) String() string {
	return fmt.Sprintf("%.0f, %.0f µs, %.1f µs, %.0f", s.perSecond, s.p99*1e6, s.cpu*1e6, s.mallocs)
}

func atLeast(ratio, goal float64) string {
	return cell(ratio, "≥", goal, ratio < goal)
}

func atMost(ratio, goal float64) string {
	return cell(ratio, "≤", goal, exceeds(ratio, goal))
}

func cell(ratio float64, relation string, goal float64, missed bool) string {
	text := fmt.Sprintf("%.2f", ratio)
	if goal > 0 {
		text += fmt.Sprintf(" (%s %.2f)", relation, goal)
	}
	if missed {
		text += " missed"
	}
	return text
}
