import Agent
import Embedding
