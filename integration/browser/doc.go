// Package browser holds no code, only tests with a real Chromium: what the demo's page shows, and what pages from elsewhere cannot do.
package browser
