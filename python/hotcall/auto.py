"""Importing this module installs hotcall: ``import hotcall.auto``."""

from hotcall import install

install()
