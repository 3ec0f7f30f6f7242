"""What an audit found, as JSON and as a page for people: what was asked, what was done, what was measured."""
