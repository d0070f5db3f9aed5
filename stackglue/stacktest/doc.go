// Package stacktest checks that a stack keeps the contract written in package
// stackglue. Every stack runs Run from its own tests with a Factory that makes
// connected nodes. Nothing is skipped for a stack of several nodes; a stack of
// one node gets the part that needs only one.
package stacktest
