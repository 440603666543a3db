"""The commands: parse the arguments, call the library, print one clear line when the input is bad."""
