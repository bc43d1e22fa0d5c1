"""Medical images for mambasdk. Importing this package loads neither torch nor a model."""

__version__ = "0.1.0"
__all__ = ["__version__"]
