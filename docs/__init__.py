"""The site: pages in Markdown, and the directives that are made for them."""
