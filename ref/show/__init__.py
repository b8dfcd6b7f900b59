"""What is looked at rather than computed: plots, the logit lens, the explore page, shapes and sources in words."""
