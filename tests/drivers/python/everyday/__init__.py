"""What any application does with PyMongo, as an app behind the proxy."""
