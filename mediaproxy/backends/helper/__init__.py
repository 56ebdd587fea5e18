"""The C helper ``_mediaproxy_offload``, typed: one module per family of functions, and nobody else imports it."""
