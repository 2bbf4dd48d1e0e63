"""What the acceptance runs stand on: mongod, proxy, drivers. Standard library only."""
