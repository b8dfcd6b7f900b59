"""Text to ids and back: the SentencePiece tokenizer, chat turns."""
