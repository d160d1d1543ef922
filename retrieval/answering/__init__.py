"""Answers with citations: a chat model reads the best pages, and every quote it gives is looked up on its page.

`answerer` decides whether a model is asked, and streams its answer; `prompt` builds the request, `client` sends it,
`parse` reads the reply, `quotes` finds each quote on its page. The model never says where on a page something is.
"""
