package hystrix

import (
	"maps"
	"sync"
	"time"
)

// What a command gets whose CommandConfig leaves a field out. A change counts for the commands that are configured, or used
// for the first time, after it, and must be made before any runs.
var (
	// DefaultTimeout is how many milliseconds a command may take.
	DefaultTimeout = 1000
	// DefaultMaxConcurrent is how many commands of one name may run at the same time.
	DefaultMaxConcurrent = 10
	// DefaultVolumeThreshold is how many results ten seconds must have before the circuit can open.
	DefaultVolumeThreshold = 20
	// DefaultSleepWindow is how many milliseconds an open circuit waits before each test.
	DefaultSleepWindow = 5000
	// DefaultErrorPercentThreshold is the percentage of errors at which the circuit opens.
	DefaultErrorPercentThreshold = 50
	// DefaultLogger is what logs until SetLogger is called: nothing. It is read when the program starts; to log, call SetLogger.
	DefaultLogger = NoopLogger{}
)

// Settings are what a command runs by.
type Settings struct {
	Timeout                time.Duration
	MaxConcurrentRequests  int
	RequestVolumeThreshold uint64
	SleepWindow            time.Duration
	ErrorPercentThreshold  int
}

// CommandConfig describes a command's Settings. Times are in milliseconds; zero means the default.
type CommandConfig struct {
	Timeout                int `json:"timeout"`
	MaxConcurrentRequests  int `json:"max_concurrent_requests"`
	RequestVolumeThreshold int `json:"request_volume_threshold"`
	SleepWindow            int `json:"sleep_window"`
	ErrorPercentThreshold  int `json:"error_percent_threshold"`
}

// settings are the Settings of all commands, by name.
var settings struct {
	mu     sync.Mutex // also held while a circuit is published, so that it has the newest settings
	byName map[string]*Settings
}

// Configure is ConfigureCommand for several commands.
func Configure(cmds map[string]CommandConfig) {
	for name, config := range cmds {
		ConfigureCommand(name, config)
	}
}

// ConfigureCommand sets a command's Settings. They count at once also for a circuit that exists, whose state stays as it is; only
// its MaxConcurrentRequests stays what it was until Flush.
func ConfigureCommand(name string, config CommandConfig) {
	s := &Settings{
		Timeout:                milliseconds(config.Timeout, DefaultTimeout),
		MaxConcurrentRequests:  either(config.MaxConcurrentRequests, DefaultMaxConcurrent),
		RequestVolumeThreshold: uint64(either(config.RequestVolumeThreshold, DefaultVolumeThreshold)),
		SleepWindow:            milliseconds(config.SleepWindow, DefaultSleepWindow),
		ErrorPercentThreshold:  either(config.ErrorPercentThreshold, DefaultErrorPercentThreshold),
	}
	settings.mu.Lock()
	defer settings.mu.Unlock()
	setLocked(name, s)
	if c := circuits.find(name); c != nil {
		c.settings.Store(s)
	}
}

func either(n, def int) int {
	if n == 0 {
		return def
	}
	return n
}

func milliseconds(n, def int) time.Duration {
	return time.Duration(either(n, def)) * time.Millisecond
}

func setLocked(name string, s *Settings) {
	if settings.byName == nil {
		settings.byName = make(map[string]*Settings)
	}
	settings.byName[name] = s
}

// settingsLocked returns the Settings of a command, by the defaults if it has none yet. The mutex is held.
func settingsLocked(name string) *Settings {
	s := settings.byName[name]
	if s == nil {
		s = &Settings{
			Timeout:                milliseconds(0, DefaultTimeout),
			MaxConcurrentRequests:  DefaultMaxConcurrent,
			RequestVolumeThreshold: uint64(DefaultVolumeThreshold),
			SleepWindow:            milliseconds(0, DefaultSleepWindow),
			ErrorPercentThreshold:  DefaultErrorPercentThreshold,
		}
		setLocked(name, s)
	}
	return s
}

// GetCircuitSettings returns the Settings of all commands that were configured or used so far, by name.
func GetCircuitSettings() map[string]*Settings {
	settings.mu.Lock()
	defer settings.mu.Unlock()
	if settings.byName == nil {
		return map[string]*Settings{}
	}
	return maps.Clone(settings.byName)
}
