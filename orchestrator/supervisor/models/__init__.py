"""The models of a supervisor: loaded, unloaded and put to sleep as they are asked for."""
