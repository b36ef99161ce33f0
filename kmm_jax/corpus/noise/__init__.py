"""Words that many search for and no picture shows: proposed from how much their pictures agree."""
