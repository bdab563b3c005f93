"""The ground of storage: how the file is opened, checked, kept and described; what every other room stands on."""
