"""This package takes files to other devices and judges what they computed there: silicon, or an emulator of it."""
