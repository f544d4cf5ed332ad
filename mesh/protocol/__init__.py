"""The bytes on a link, and who may say what with them."""
