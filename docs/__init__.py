"""The documentation site: Markdown pages and the Sphinx directives that they use."""
