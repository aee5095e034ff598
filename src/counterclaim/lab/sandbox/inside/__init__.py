"""What runs inside the walls: standard library only, and only this folder of the package is visible there."""
