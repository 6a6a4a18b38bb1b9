"""What apps that are out there rely on: the released document, and requests with answers as their versions saw them."""
