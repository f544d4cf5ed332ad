"""The gateway's state of the requests that it owns, and its decisions about them."""
