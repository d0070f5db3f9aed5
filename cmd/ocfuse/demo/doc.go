// Package demo is `ocfuse demo`: an image, three nodes on this machine, and a
// story told while it happens. Every sentence about the file system is checked;
// the first that is not true ends the demo with an error.
package demo
