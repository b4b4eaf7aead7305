"""What comes over the network: addresses that may be asked, requests, downloads."""
