package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionView is what "hull version" prints.
type versionView struct {
	Version  string `json:"version" doc:"the module's version, or (devel)"`
	Revision string `json:"revision,omitempty" doc:"the commit it was built from"`
	Modified bool   `json:"modified,omitempty" doc:"the sources differed from that commit"`
	Time     string `json:"time,omitempty" doc:"the commit's time"`
	Go       string `json:"go" doc:"the version of Go it was built with"`
	Platform string `json:"platform" doc:"operating system and architecture"`
}

// version is "hull version".
func (p *program) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of hull",
		Args:  p.arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, _ := debug.ReadBuildInfo() // nil for a program without modules
			v := viewVersion(info)
			if p.wantsJSON(cmd) {
				return p.printJSON(v)
			}
			fmt.Fprintf(p.Stdout, "hull %s\n", v.Version)
			if v.Revision != "" {
				modified := ""
				if v.Modified {
					modified = ", modified"
				}
				fmt.Fprintf(p.Stdout, "commit %s of %s%s\n", v.Revision, v.Time, modified)
			}
			fmt.Fprintf(p.Stdout, "built with %s for %s\n", v.Go, v.Platform)
			return nil
		},
	}
}

// viewVersion reads what the linker knows.
func viewVersion(info *debug.BuildInfo) versionView {
	v := versionView{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info == nil {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
