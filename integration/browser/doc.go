// Package browser holds no code, only the test that drives the demo's page in a real Chromium.
package browser
